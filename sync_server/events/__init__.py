"""What happened to decisions and revocations, told to whoever registered: streams, webhooks, recipients."""
