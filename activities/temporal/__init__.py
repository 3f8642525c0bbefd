"""How we speak to Temporal: client, data converter, encryption, external storage, failures."""
