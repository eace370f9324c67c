//! The rules of stream conversion, each with its test.
