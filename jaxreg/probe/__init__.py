"""What a trained model does: functions of (model, params, batch), for `forward.over_members`.

    forward        one pass as all probes run it; Score (accuracy, loss); over_members
    knockout       connections, the strongest ones, heads, branches, layers taken out
      replacement    ... by zero, the mean, or another example's
      normalization  ... with the norms' statistics frozen
      capture        all activations of an unmodified pass
    attention      maps, entropy, mass on an edge, severed connections, replayed masks
    ensemble       mean over K masks, and over members, against evaluation mode
    mismatch       train mode minus evaluation mode
    memorization   accuracy on corrupted labels; exposure of canaries
    position       accuracy with the sentences shifted, or their words in another order
    gradients      gradient norms by layer (layers: their order)
    drift          how far one update moves what each layer reads
    sharpness      the rise of the loss around the parameters; the top eigenvalue of the Hessian
    sampling       text that a model of next tokens continues; what it says next
    stability      diverged share, largest stable learning rate (numpy, from outcomes)

Which probe answers which claim, beside the views of the data set:

    M4, D10  mismatch.mismatch(...).gap.loss
    C1c, C4  knockout.cue_knockouts with Removal("masked"), or the views with cuts: the same
    C1c, C8  position.position_scores: the dependence on word positions
    C1d      knockout.knocked_out with connections = ~eye and Removal("masked"): every connection
             but to itself cut
    C2       knockout.cue_knockouts (reliance, primary); attention.edge_mass(..., "query", cue)
             (mass, beside it)
    C3       memorization.memorized(...).corrupted against .clean and .restored;
             memorization.input_exposure, .label_exposure
    C5       ensemble.mask_ensemble: mean_probability against evaluation;
             ensemble.member_ensemble: mean_probability against single
    C6       knockout.costliest(knockout.head_knockouts(...));
             knockout.strongest_knockout(per="model", query_only=True); both with
             Removal(frozen_norms=True) too. At matched clean accuracy: pass the parameters of the
             first checkpoint that has it
    D1       stability.largest_stable_rate, stability.diverged_share
    D1b, D3  gradients.gradient_norms(...).first_to_last; stability.largest_stable_rate
    D2       drift.input_drift(...).distribution (Ioffe and Szegedy);
             drift.gradient_drift(...).distance (Santurkar et al.)
    D5       attention.attention_entropy, relative=True
    D7       stability.diverged_share

`sharpness` answers no claim of the essay; it is reported beside D6 and SAM. C7, C1a, C1b, D4, D8,
D9, D11, I1 need no probe.
"""
