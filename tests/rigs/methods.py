"""Methods that tests share: kernels are compiled for each other one, for a quarter of a minute in every run."""

from dataclasses import replace

from pipeline.method import Method

SMALL = Method(horizons=(1, 3), hidden_size=8, window=8)
FINE = replace(SMALL, fine_rings=True)  # what waits for labels, and windows, can be read to the bit
ONE = replace(FINE, horizons=(1,))
WIND = replace(SMALL, covariates=("wind",))
MEDIAN = replace(SMALL, quantiles=(0.5,))
TWO_LAYERS = replace(SMALL, cell="lstm", layers=2)
LONG_LSTM = Method(cell="lstm", layers=2, hidden_size=8, season_slots=12, fine_rings=True)
LATER = replace(FINE, horizons=(3, 8), cell="rnn_tanh", layers=2)  # no horizon is the next event
