"""The room of training: what a trainer makes of the data, packing, order of epochs, and fast reading at random."""
