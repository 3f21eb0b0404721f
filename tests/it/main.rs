//! The integration tests: everything that opens a socket, reads a file or runs the program.
