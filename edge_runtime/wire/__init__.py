"""The words both sides speak: messages, codec, refusals, signatures. Pure; imports nothing else of ours."""
