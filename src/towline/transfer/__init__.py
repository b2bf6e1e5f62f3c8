"""Moving trees and models: what is there, what is missing, the frames, the proof.

`scan` reads the local side, `upload` and `download` move bytes over a `Line`; the far side of both
is in `towline.onboard`. Nothing here knows runs or steps.
"""
