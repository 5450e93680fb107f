# NCE with noise that is learned beside f (M-26); its base is the head's noise.
proposal = dict(type="LearnedProposal")
