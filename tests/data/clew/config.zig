const std = @import("std");
const json = std.json;

pub const Id = u64;

/// How loud.
const Level = enum(u8) { quiet, loud = 3, @"very loud", _ };

pub const Config = struct {
    const Self = @This();
    const Mode = enum { fast, slow };

    /// What it is called.
    name: []const u8,
    id: Id,
    level: Level = .quiet,
    mode: Mode,
    note: ?[]const u8,
    retries: ?u3 = null,
    weights: [3]f32 = .{ 1, 2, 3 },
    code: [2]u8,
    tags: []const []const u8,
    parent: ?*const Config,
    shape: Shape,
    pair: struct { u8, bool },
    inner: struct { x: i7 },
    extra: json.Value = .null,
    table: std.json.ArrayHashMap(u16),
    @"odd name": bool = false,

    pub fn deinit(self: *Self) void {
        _ = self;
    }
};

const Shape = union(enum) {
    circle: f64,
    line: struct { from: Config.Mode, to: u8 },
    nothing,
    void: void,
};

const Bare = union { a: u8, b: u16 };

pub fn List(comptime T: type) type {
    return struct {
        items: []T,
        next: ?*@This(),
    };
}

const Levels = List(Level);

const Custom = struct {
    x: u8,
    pub fn jsonStringify(self: Custom, writer: anytype) !void {
        try writer.write(self.x);
    }
};

const Uses = struct { custom: Custom, list: std.ArrayList(u8) };

const limit = 10;
const list = [_]u8{ 1, 2 };
