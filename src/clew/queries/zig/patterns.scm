; `@category.pattern`: each is counted. Every one has an example and a near miss in testdata/patterns/zig.txt.

(function_declaration) @functions.function_declaration
(function_declaration "pub") @functions.public_function
(function_declaration "inline") @functions.inline_function
(function_declaration "export") @functions.exported_function
(function_declaration "extern") @functions.extern_function
(parameter "comptime") @functions.comptime_parameter
(function_declaration type: (builtin_type) @_type (#eq? @_type "type")) @functions.type_function
(function_declaration name: (identifier) @_init (#match? @_init "^init")) @functions.init_function
(parameters . (parameter name: (identifier) @_self (#eq? @_self "self"))) @functions.method

(nullable_type) @types.optional_type
(slice_type) @types.slice_type
(pointer_type) @types.pointer_type
(array_type) @types.array_type
(slice_type sentinel: (_)) @types.sentinel_slice
(builtin_type "anytype") @types.anytype_parameter
(builtin_function (builtin_identifier) @_as (#eq? @_as "@as")) @types.explicit_type
(builtin_function (builtin_identifier) @_cast
  (#any-of? @_cast "@intCast" "@floatCast" "@truncate" "@enumFromInt" "@bitCast")) @types.cast
(builtin_function (builtin_identifier) @_info (#any-of? @_info "@typeInfo" "@TypeOf" "@hasField" "@hasDecl")) @types.reflection

(suspend_statement) @async.suspend
(resume_expression) @async.resume
(call_expression function: (field_expression) @_spawn (#match? @_spawn "Thread\\.spawn$")) @async.thread_spawn
(builtin_function (builtin_identifier) @_atomic (#match? @_atomic "^@(atomic|cmpxchg)")) @async.atomic
((field_expression) @async.mutex (#match? @async.mutex "^std\\.Thread\\.(Mutex|RwLock|Semaphore|Condition)$"))

(error_union_type) @errors.error_union
(error_set_declaration) @errors.error_set
(try_expression) @errors.try
(catch_expression) @errors.catch
(catch_expression (payload)) @errors.catch_with_payload
(return_expression (error_type)) @errors.returned_error
(binary_expression operator: "orelse") @errors.orelse
(null_coercion_expression) @types.forced_optional
(builtin_function (builtin_identifier) @_panic (#eq? @_panic "@panic")) @errors.panic
"unreachable" @errors.unreachable
(builtin_function (builtin_identifier) @_compile (#eq? @_compile "@compileError")) @errors.compile_error

(variable_declaration (builtin_function (builtin_identifier) @_import (#eq? @_import "@import"))) @imports.import
(builtin_function (builtin_identifier) @_import (arguments (string) @_file) (#eq? @_import "@import") (#match? @_file "\\.zig\"$")) @imports.file_import
(builtin_function (builtin_identifier) @_c (#eq? @_c "@cImport")) @imports.c_import
(builtin_function (builtin_identifier) @_embed (#eq? @_embed "@embedFile")) @imports.embedded_file
(using_namespace_declaration) @imports.using_namespace
(variable_declaration "pub" "const" (builtin_function (builtin_identifier) @_import (#eq? @_import "@import"))) @imports.re_export

(struct_declaration) @classes.struct
(struct_declaration "packed") @classes.packed_struct
(struct_declaration "extern") @classes.extern_struct
(enum_declaration) @classes.enum
(union_declaration) @classes.union
(union_declaration "enum") @classes.tagged_union
(opaque_declaration) @classes.opaque
(struct_declaration (function_declaration)) @classes.struct_with_functions
(anonymous_struct_initializer) @classes.anonymous_literal

((comment) @metadata.doc_comment (#match? @metadata.doc_comment "^///([^/]|$)"))
((comment) @metadata.module_doc_comment (#match? @metadata.module_doc_comment "^//!"))
(test_declaration) @metadata.test
(comptime_declaration) @metadata.comptime_block
(calling_convention) @metadata.calling_convention
(byte_alignment) @metadata.alignment

(parameter type: (field_expression) @_allocator (#match? @_allocator "(^|\\.)Allocator$")) @memory.allocator_parameter
(call_expression function: (field_expression member: (identifier) @_alloc)
  (#any-of? @_alloc "alloc" "create" "dupe" "realloc" "allocSentinel")) @memory.allocation
(call_expression function: (field_expression member: (identifier) @_free) (#any-of? @_free "free" "destroy")) @memory.release
(call_expression function: (field_expression member: (identifier) @_deinit) (#eq? @_deinit "deinit")) @memory.deinit
(defer_statement) @memory.defer
(errdefer_statement) @memory.errdefer
(field_expression member: (identifier) @_arena (#eq? @_arena "ArenaAllocator")) @memory.arena
(builtin_function (builtin_identifier) @_cast
  (#any-of? @_cast "@ptrCast" "@alignCast" "@ptrFromInt" "@constCast")) @memory.pointer_cast
(dereference_expression) @memory.dereference
(pointer_type "volatile") @memory.volatile
