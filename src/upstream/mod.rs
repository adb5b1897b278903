//! A permit to a connection to the API behind us.
