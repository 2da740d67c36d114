(go_statement) @async.started_task
