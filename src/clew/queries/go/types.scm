; Everything at the top of a file, in order.
(source_file (_) @item)
