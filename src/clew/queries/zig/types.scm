; The file, which is itself a type: its declarations are those of its members, at any depth.
(source_file) @file
