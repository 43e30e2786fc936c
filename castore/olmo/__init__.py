"""The room that knows open-instruct's output directories, which OLMo-core trains from. Nothing else knows them."""
