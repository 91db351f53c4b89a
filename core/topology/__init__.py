"""The rules for declaring, deleting and binding, with RabbitMQ's order of checks and its texts.

The functions take the session of the client first; core/session.py has them as its methods. All checks come before any
change: a function that raises has changed nothing. What is decided here is carried out by core/vhost.py.
"""
