"""Own tuners for Hugging Face peft. Nothing heavy is imported here."""
