"""Background processes inside your application: schedule them, run them exactly once, see what happened."""
