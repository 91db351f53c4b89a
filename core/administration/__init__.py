"""What operators do to a running broker: each operation stands here once, in one module per noun.

The management API, the control socket and plugins are callers. A caller parses its input, decides who may, calls the
function, and shapes the answer; a change is durable after the next commit (`broker.store.after_commit`), and the
caller waits for that before it answers. Every function takes the broker first, then names and plain values, and checks
everything before it changes anything. Refusals are told apart by class: `NotFound` (virtual host, queue, policy,
parameter, connection), `InvalidArgument` (a value, with RabbitMQ's text), `PreconditionFailed` (in use, protected),
and of users `NoSuchUser`, `UserExists` and `AuthDataError` (leveret.auth.users).

users         add_user, put_user (UserPassword), delete_user, change_password, clear_password, set_user_tags,
              authenticate_user
permissions   set_permissions, clear_permissions, set_topic_permissions, clear_topic_permissions, list_permissions,
              list_topic_permissions
limits        set_vhost_limits (replaces all), set_vhost_limit, clear_vhost_limit, clear_vhost_limits,
              set_user_limits (adds to the others), clear_user_limit, clear_user_limits
vhosts        add_vhost (leaves an existing one as it is), put_vhost (changes it), VhostMetadata, delete_vhost,
              set_protection, set_tracing
policies      set_policy (PolicyValue), clear_policy; `operator=True` for operator policies
parameters    set_parameter, clear_parameter, list_parameters, set_global_parameter, clear_global_parameter,
              list_global_parameters, RESERVED_COMPONENTS
definitions   export_definitions, import_definitions
topology      purge_queue, delete_queue, regardless of permissions and owners. What users declare, bind and delete
              with their own permissions is a `Session`'s (leveret.core.session)
connections   close_connection, close_user_connections, close_vhost_connections
node          set_memory_watermark, set_disk_free_limit, set_log_level, status

Functions that create or replace return True for something new; functions that clear return whether there was
something, except where a missing thing is an error (NotFound), which each says.
"""
