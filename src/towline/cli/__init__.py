"""The command line: a thin layer over `towline.api`.

`main` knows the commands by name and turns errors into exit codes; `run`, `control`, `show` and
`doctor` hold the commands; `drive` is what they share when this process drives a run; `render`
and `live` show a run; `text` is the one gate that everything printed goes through.
"""
