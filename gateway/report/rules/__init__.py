"""The clauses as tables of pure rules, a file for each specification."""
