"""What executes runs: threads, one event loop, OS processes, and whatever a `concurrent.futures` executor stands for.

All ways share one small interface (`crew.Room`): take a run, end one whose time is over, stop. The engine and the
scheduler know no more than that and how many runs each may have at once.

A run that goes on in another OS process is an *errand*: plain values and the name of a function, never its code. Its
worker speaks back over one connection, line by line, so what it said before it died is known; and the scheduler's end
of that connection notices when it dies. There is one protocol, whether the connection is a pipe to a child or a socket
to another machine:

    scheduler to worker    run (the errand follows)  |  stop, a cause
    worker to scheduler    line  |  progress  |  end, an outcome

Every message is JSON. Only the errand is pickled, and it goes from the scheduler to the worker.
"""
