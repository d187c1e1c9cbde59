"""Bulk sends: many messages, as fast as the limiter allows. Events and the command line call a bulk send a blast."""
