"""Raw conversations in, tokens, label spans and stored samples out; the only room that knows tokenizer libraries."""
