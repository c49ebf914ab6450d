"""What a model card says about data, initial weights and use, apart from the figures."""

from __future__ import annotations

DATA = {
    "synthetic": "Faces drawn by NLA itself with a known P(class | image). No person is in them, and they have no "
    "terms. A model of drawn faces is of no use for photographs.",
    "ferplus": "FERPlus: 48 x 48 grey faces of FER2013 (Goodfellow et al. 2013), which were collected by web searches "
    "and are distributed for research through a Kaggle competition, with the votes of ten annotators each (Barsoum et "
    "al. 2016), whose file Microsoft publishes. The rights in the photographs are with their owners.",
    "rafdb": "RAF-DB (Li et al. 2017): photographs from the web. Its authors give it on request, for non-commercial "
    "research only.",
    "affectnet": "AffectNet (Mollahosseini et al. 2019): photographs from web searches. Its authors give it to "
    "research groups under an agreement, for research only.",
    "drawn": "Clips of faces drawn by NLA itself with a known P(class | frame). No person is in them, and they have no "
    "terms. A model of drawn faces is of no use for films of people.",
    "affwild2": "Aff-Wild2 (Kollias and Zafeiriou 2019): videos from the web. Its authors give it on request, under an "
    "agreement, for non-commercial research only.",
}
"""Source -> what is known of its origin and terms; the agreement that came with the copy in use decides."""
OTHER_DATA = "A data set of the user's own; its terms are not known to NLA."
TERMS = (
    "Whether weights that were trained on such data may be passed on, and to whom, is for the terms of the data and of "
    "the initial weights to say."
)

FROM_SCRATCH = "random initialisation; no weights of others are involved"
DLIB = (
    "`face_recognition_models`: dlib's face recognition network, released into the public domain by its author (CC0 in "
    "the package), trained on about three million faces of FaceScrub, VGG-Face and the web"
)
OTHER_START = "its licence is not known to NLA, and limits this model's use too"

USE = (
    "For research on facial expressions and on labels that are ambiguous or wrong. The input is one face, cropped as "
    "the training faces were.",
)
LIMITS = (
    "An expression is not a feeling. The model names the class that annotators would probably choose for a picture; "
    "it does not know what a person feels, thinks or will do, and must not be used to decide about people.",
    "In the European Union, inferring emotions of people at the workplace and in education institutions is prohibited, "
    "except for medical or safety reasons (Regulation (EU) 2024/1689, the AI Act, Art. 5(1)(f)). Other emotion "
    "recognition is high-risk (Annex III, 1(c)), and those exposed to it must be told (Art. 50(3)). Other laws may "
    "apply.",
    "The faces of the data set are a sample of certain people, in pose, age, skin, culture and light. Results on "
    "others differ, and were not measured here; the figures below are averages that can hide a group.",
    "Some classes are much harder or rarer than others: see the table of classes.",
    "Confidences are calibrated on images like those of validation. On other images they can be wrong, and an image "
    "that shows no face gets a label too.",
)

SHIPPED = (
    "These weights come with NLA, whose authors add no conditions to those of NLA's own licence. They cannot give "
    "rights in the faces that the weights were trained on: FER2013 was collected by web searches, and its competition "
    "gave it out for research. So take the weights for research and for trying NLA out; for anything else, clarify the "
    "rights first."
)
"""On the model that comes with the package."""
HALF = (
    "Made by `make pretrained` in NLA's repository, with the settings of `pretrained/params.yaml`. The weights are "
    "stored in half precision, and computed with in float32; all figures of this card are of them as stored. Accuracy "
    "on test: {accuracy:.2%}, before rounding {float32_accuracy:.2%}; {same_labels:.2%} of the labels are the same, "
    "and no probability differs by more than {largest_difference:.4f}."
)
LEAKS = "Images of train and validation that are pixel-identical to one of a later split were left out."
