"""`bgsched demo`: a small host application that does real work, to be watched and to be read.

An office gets invoices as CSV files, some of them damaged. Background processes book them in the office's own ledger
(a database that bgsched knows nothing of), seal and archive the files, fetch the exchange rates, write the nightly
report and remind customers. Read it in this order:

- `processes`: the background processes of the office; most of what a host writes for bgsched is there.
- `story`: the main program: make a scheduler, start it, act as the people of the office do, stop.
- `office`, `invoices`, `ledger`: the application itself, without a word of bgsched. The work can be interrupted
  anywhere and done again, which is what makes a host safe from ``kill -9``.
- `screen`, `rich_screen`, `closing`: what is shown, all of it asked from the monitor.
"""
