"""What towline runs on the instance: one zip file of standard-library Python (3.6 and later).

`towline.bundle` packs this folder into `onboard.pyz`, which travels over the SSH connection into
the run's control folder and leaves with it. Modules import each other relatively, because there
the package has no parent. Each verb is one process: a JSON request in, frames out.
"""
