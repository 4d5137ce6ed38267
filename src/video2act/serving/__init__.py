"""Policies over a network: what a message is, the server, the client. Knows the nouns and the sockets, not what
answers."""
