"""What a coarse step costs the picture: the harm table, the oracle that reads it, and our calibration.

Harm is the mean squared error of the final picture (in [0, 1]) against the base model's from the same
noise; PSNR = -10 log10(harm). `table` holds it by prompt, step and scale; `measure` fills a table;
`oracle` finds the best schedule under a budget; `fit` makes a `calibration` of it, which the policy
`Calibrated` reads (`calibrate` does all of it); `compare` holds every rule (`schedules`) against the
oracle, and `gap` says how much of the way to it a policy goes. `bench` is what all of them measure on.
"""
