//! What a reload replaces, in one `Arc`.
