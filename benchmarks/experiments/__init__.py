"""Experiments after arXiv 2606.25004: `python -m benchmarks.experiments NAME --profile small|paper`.

One file per table or figure; each has PROFILES, run(profile, context) -> Result and draw(result, figure).

common       recipes of models, their training, profiles, the context of a run; cache: of trained models
datasets     Fashion-MNIST, CIFAR-10, a slice that ships with the package; jpeg: copies of CIFAR-10 in JPEG
models       the networks a recipe can name
corruptions  defects: noisy labels, spurious features, backdoors, 4-bit weights
measures     every measure of a model, by name
failures     what becomes of draws of the probe that fail, the same in all experiments
statistics   correlations, the granulated Psi, Student's interval
separation   AUC, effect size and tests between kinds of models
claims       the file of claims, and when it was committed
pairs        benign and faulty models on the clean training set: what table2, table7 and study compare; pair_verdicts:
             what they say
defects      what own_data trains and measures, own_verdicts: what it says; timing: what Table 3 times
grid         parallel maps, with joblib or on Ray
gpt          a small language model, its text, and defects of text; evasion: an attack on the score
arithmetic   language models of sequences of numbers, for table7
parts        what the parts of own_more share; own_images, own_poisoning, own_text: those parts
report       results with a verdict per claim, as JSON, Markdown and PNG
"""
