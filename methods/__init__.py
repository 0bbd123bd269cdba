"""METHODS: every attribution method of the suite, one line each."""

from __future__ import annotations

from tasks.registry import Entry

METHODS: dict[str, Entry] = {
    "activ_patch": Entry(
        "methods.activ_patch:ActivPatch",
        "activation patching: what changes when one activation comes from the other run",
    ),
    "attr_patch": Entry(
        "methods.attr_patch:AttrPatch",
        "attribution patching: first-order estimate of activation patching by gradients",
    ),
    "path_gradients": Entry(
        "methods.path_gradients:PathGradients",
        "gradients along a path between two runs: EAP-IG at nodes, conductance and others",
    ),
    "local_rules": Entry(
        "methods.local_rules:LocalRules",
        "attribution patching with other local derivatives: RelP, AttnLRP, CP-LRP, GIM, GradDrop",
    ),
    "atp_star": Entry(
        "methods.atp_star:AtPStar",
        "AtP*: attribution patching with the QK fix at queries and keys, and GradDrop",
    ),
    "captum": Entry(
        "methods.captum:Captum",
        "Shapley values, KernelSHAP, integrated gradients and others, by the library Captum",
    ),
    "grad_scalar": Entry(
        "methods.grad_scalar:GradScalar",
        "exact derivative of the logit difference in each activation scalar",
    ),
    "iterated_grad_scalar": Entry(
        "methods.iterated_grad_scalar:IteratedGradScalar",
        "activation scalars after a few steps along the slope of the objective",
    ),
    "dla": Entry(
        "methods.dla:DLA",
        "direct logit attribution: activations projected onto the answer-foil direction",
    ),
    "direct_effect": Entry(
        "methods.direct_effect:DirectEffect",
        "activation patching by the direct path to the logits, all later layers held",
    ),
    "logit_lens": Entry(
        "methods.logit_lens:LogitLens",
        "logit lens: logit difference of the residual stream, unembedded at the point",
    ),
    "information_flow": Entry(
        "methods.information_flow:InformationFlow",
        "information flow routes: how strong the parts are that the answer's stream came by",
    ),
    "diff_means": Entry(
        "methods.diff_means:DiffMeans",
        "difference in means: clean minus corrupted activation, added as a steering vector",
    ),
    "sadi": Entry(
        "methods.sadi:SADI",
        "SADI: scalars of 1 at the points where the two runs differ most, 0 elsewhere",
    ),
    "probe": Entry(
        "methods.probe:Probe",
        "linear probe: how surely the point tells a clean prompt from a corrupted one",
    ),
    "function_vectors": Entry(
        "methods.function_vectors:FunctionVectors",
        "function vectors: answer's probability gained by the mean clean activation",
    ),
    "coax": Entry(
        "methods.coax:CoAx",
        "CoAx: what a patch does more once the strongest points are patched: backups",
    ),
    "hard_concrete": Entry(
        "methods.hard_concrete:HardConcrete",
        "hard-concrete gates: the points that have to stay for the model's output to stay",
    ),
    "uniform_gates": Entry(
        "methods.hard_concrete:UniformGates",
        "uniform gates: the same by gates whose gradient is unbiased (UGS)",
    ),
    "causal_head_gating": Entry(
        "methods.causal_head_gating:CausalHeadGating",
        "causal head gating: heads that are needed, and heads that are in the way",
    ),
    "activ_scalar": Entry(
        "methods.activ_scalar:ActivScalar",
        "activation scaling, trained: one scalar a point",
    ),
    "steer_vec": Entry(
        "methods.steer_vec:SteerVec",
        "steering vectors, trained: one vector a point",
    ),
    "channel_scalar": Entry(
        "methods.channel_scalar:ChannelScalar",
        "scales of channels, trained: one scalar a channel of a point",
    ),
    "jola": Entry(
        "methods.jola:JoLA",
        "JoLA, trained: channel scales and a vector a point, each behind a gate",
    ),
    "dyn_scalar": Entry(
        "methods.dyn_scalar:DynScalar",
        "dynamic activation scaling, trained: scalars computed from the activation itself",
    ),
    "ensemble": Entry(
        "methods.ensemble:Ensemble",
        "mean of the ranks that several methods give a point",
    ),
    "kept_signs": Entry(
        "methods.ensemble:KeptSigns",
        "another method's scores, or 0 where their sign depends on the prompts",
    ),
    "file_scores": Entry(
        "methods.file_scores:FileScores",
        "scores of heads and MLPs from a file, as other programs write them",
    ),
    "random": Entry(
        "methods.controls:Random",
        "control: normal scores",
    ),
    "shuffled": Entry(
        "methods.controls:Shuffled",
        "control: another method's scores at random places",
    ),
}
