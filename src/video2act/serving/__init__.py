"""Policies over a network: messages, server and client. Imports the nouns and the interfaces, no policy."""
