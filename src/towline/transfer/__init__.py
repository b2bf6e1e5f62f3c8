"""Moving datasets up and models down: what is sent, how, and the proof that it arrived.

Knows the line and the frames; knows no step and no provider. `scan` says what there is, `upload`
and `download` move it, `meter` counts.
"""
