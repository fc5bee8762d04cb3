%% One handler on one event. A handler attached to five events is five entries
%% that share an id. Fields may hold '_' when an entry is used as a pattern.
-record(entry, {
    event_name :: telemetry:event_name() | '_' | nonempty_maybe_improper_list(),
    id :: telemetry:handler_id() | '_',
    function :: telemetry:handler_function() | '_',
    config :: telemetry:handler_config() | '_'
}).
