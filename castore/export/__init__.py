"""The room that writes files for trainers: OLMo-core's layout and those of others."""
