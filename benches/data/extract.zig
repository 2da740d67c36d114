const stdQQ = @import("std");

/// An order, number QQ.
pub const OrderQQ = struct {
    id: u64,
    items: []const []const u8,
    note: ?[]const u8 = null,

    pub fn deinit(self: *OrderQQ, allocator: stdQQ.mem.Allocator) void {
        for (self.items) |item| allocator.free(item);
        allocator.free(self.items);
    }
};

/// Reads an order.
pub fn loadOrderQQ(allocator: stdQQ.mem.Allocator, path: []const u8) !OrderQQ {
    const file = try stdQQ.fs.cwd().openFile(path, .{});
    defer file.close();
    const text = try file.readToEndAlloc(allocator, 1024);
    errdefer allocator.free(text);
    const order = stdQQ.json.parseFromSlice(OrderQQ, allocator, text, .{}) catch return error.Bad;
    return order.value;
}

test "order QQ" {}
