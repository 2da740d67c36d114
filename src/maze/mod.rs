//! maze
