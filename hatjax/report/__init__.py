"""From runs to a paper: what any number of workdirs say, as tables, figures and a page.

A report is a folder with
    index.html              everything together, and what is missing
    tables.md               approach x metric, and rho after so many tasks, of every experiment
    tables/NAME.tex         the same for LaTeX (NAME-rho.tex: rho)
    metrics.csv             the same with 95 % intervals
    after_every_task.csv    every metric of every run after every task
    over_seeds.csv          the same over the seeds
    figures/*.pdf, *.png    the paper's figures and the accuracy matrices

What needs runs that are not there (rho needs random and joint ones) is left out and told, with the
command that makes them, in the report and to the caller: the other numbers are as good without it,
and a study whose joint runs take longest can be looked at before they are done.
"""
