"""The fault matrix: everything that can go wrong between a client and its institute, over real sockets."""
