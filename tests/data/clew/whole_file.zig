//! A file with fields is a struct.

const WholeFile = @This();

name: []const u8,
next: ?*WholeFile = null,
count: u32 = 0,
