"""Several trials in one forward and backward pass of one base model.

    views       a model of its own for each trial, whose frozen weights are those of all
    trunk       one forward pass: what nobody adapts runs once for all, an adapted module runs each trial's own
                adapter on its rows
    prompts     vectors of prompts beside the text
    grouped     adapters whose rows one kernel serves for all trials (`autopeft_kernels`)
    rows        whose rows are where
    passes      which trials go through the model together
    padding     batches of unlike lengths made one, or alike
    arena       parameters of all trials in flat buffers, updated by one optimiser step
    vocabulary  the loss of language models without the logits of all trials
    graphs      steps that recur, recorded and replayed
    pack        the members of a pack, and their steps

Numbers are those of separate runs: rows of unlike trials never meet, losses and gradients are each trial's own.
"""
