"""Names of other libraries: each hint is true, or there is none."""

import importlib
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold

import framework
from framework import (
    AdamOptimizer,
    Component,
    CosineSchedule,
    Dense,
    HalfSquaredError,
    Layer,
    MeanSquaredError,
    Neuron,
    Residual,
    Schedule,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Trainer,
    on,
)
from framework.base.lazy import families
from framework.base.settings import messages
from framework.base.settings.messages import closest
from framework.training.callbacks.base import HOOKS

TABLES = tomllib.loads(Path(messages.__file__).with_name("other_libraries.toml").read_text(encoding="utf-8"))
SETTINGS = TABLES["settings"]
ADVICE = {owner: known for owner, known in TABLES.items() if owner != "settings"}

ELSEWHERE = """
AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveLogSoftmaxWithLoss AdaptiveMaxPool1d AdaptiveMaxPool2d
AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d BCELoss
BCEWithLogitsLoss Bilinear Buffer CELU ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d
ConstantPad2d ConstantPad3d Container Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss CrossMapLRN2d CTCLoss DataParallel Dropout Dropout1d Dropout2d
Dropout3d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold FractionalMaxPool2d FractionalMaxPool3d
GaussianNLLLoss GELU GLU GroupNorm GRU GRUCell Hardshrink Hardsigmoid Hardswish Hardtanh HingeEmbeddingLoss
HuberLoss Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d KLDivLoss L1Loss LayerNorm LazyBatchNorm1d
LazyBatchNorm2d LazyConv1d LazyConv2d LazyConvTranspose2d LazyInstanceNorm1d LazyLinear LeakyReLU Linear
LocalResponseNorm LogSigmoid LogSoftmax LPPool1d LPPool2d LPPool3d LSTM LSTMCell MarginRankingLoss MaxPool1d
MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d Mish Module ModuleDict ModuleList MSELoss MultiheadAttention
MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PairwiseDistance Parameter
ParameterDict ParameterList PixelShuffle PixelUnshuffle PoissonNLLLoss PReLU ReflectionPad1d ReflectionPad2d
ReflectionPad3d ReLU ReLU6 ReplicationPad1d ReplicationPad2d ReplicationPad3d RMSNorm RNN RNNBase RNNCell
RNNCellBase RReLU SELU Sequential Sigmoid SiLU SmoothL1Loss SoftMarginLoss Softmax Softmax2d Softmin Softplus
Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold Transformer TransformerDecoder TransformerDecoderLayer
TransformerEncoder TransformerEncoderLayer TripletMarginLoss TripletMarginWithDistanceLoss Unflatten Unfold
UninitializedBuffer UninitializedParameter Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d
ZeroPad3d

Adadelta Adafactor Adagrad Adam Adamax AdamW ASGD ChainedScheduler ConstantLR CosineAnnealingLR
CosineAnnealingWarmRestarts CyclicLR ExponentialLR LambdaLR LBFGS LinearLR LRScheduler MultiplicativeLR MultiStepLR
Muon NAdam OneCycleLR Optimizer PolynomialLR RAdam ReduceLROnPlateau RMSprop Rprop SequentialLR SGD SparseAdam
StepLR

Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add
AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D
AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose
Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose
Convolution2D Convolution2DTranspose Convolution3D Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D
DepthwiseConv2D Discretization Dot Dropout EinsumDense ELU Embedding Equalizer Flatten FlaxLayer GaussianDropout
GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalMaxPool1D
GlobalMaxPool2D GlobalMaxPooling1D GlobalMaxPooling2D GroupNormalization GroupQueryAttention GRU GRUCell
HashedCrossing Hashing Identity Input InputLayer InputSpec IntegerLookup JaxLayer Lambda Layer LayerNormalization
LeakyReLU LSTM LSTMCell Masking Maximum MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D
MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization Permute Pipeline PReLU RandAugment
RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation RandomZoom ReLU RepeatVector Rescaling Reshape
Resizing ReversibleEmbedding RMSNormalization RNN SeparableConv1D SeparableConv2D SeparableConvolution1D SimpleRNN
SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization
StackedRNNCells STFTSpectrogram StringLookup Subtract TextVectorization TFSMLayer TimeDistributed TorchModuleWrapper
UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D

Accuracy Adadelta Adafactor Adagrad Adam Adamax AdamW AUC BackupAndRestore BinaryAccuracy BinaryCrossentropy
BinaryFocalCrossentropy BinaryIoU Callback CallbackList CategoricalAccuracy CategoricalCrossentropy
CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle Constant CosineDecay
CosineDecayRestarts CosineSimilarity CSVLogger CTC Dice EarlyStopping ExponentialDecay F1Score FalseNegatives
FalsePositives FBetaScore Ftrl GlorotNormal GlorotUniform HeNormal HeUniform Hinge History Huber IdentityInitializer
InverseTimeDecay IoU KLDivergence L1 L1L2 L2 Lamb LambdaCallback LearningRateSchedule LearningRateScheduler
LecunNormal LecunUniform Lion LogCosh Loss LossScaleOptimizer Mean MeanAbsoluteError MeanAbsolutePercentageError
MeanIoU MeanMetricWrapper MeanSquaredError MeanSquaredLogarithmicError Metric Model ModelCheckpoint Muon Nadam Ones
Optimizer Orthogonal OrthogonalInitializer OrthogonalRegularizer PiecewiseConstantDecay Poisson PolynomialDecay
Precision PrecisionAtRecall ProgbarLogger R2Score RandomNormal RandomUniform Recall RecallAtPrecision
ReduceLROnPlateau Regularizer RemoteMonitor RMSprop RootMeanSquaredError SensitivityAtSpecificity Sequential SGD
SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity
SquaredHinge STFT Sum SwapEMAWeights TensorBoard TerminateOnNaN TopKCategoricalAccuracy TrueNegatives TruePositives
TruncatedNormal Tversky Variable VarianceScaling Zeros

adabelief adadelta adafactor adagrad adam adamax adamw apply_updates clip_by_global_norm constant_schedule Conv
ConvTranspose cosine_decay_schedule cosine_distance cosine_onecycle_schedule cosine_similarity ctc_loss DenseGeneral
Embed exponential_decay fromage grad GroupNorm hinge_loss huber_loss jit kl_divergence l2_loss lamb lars
linear_onecycle_schedule linear_schedule lion log_cosh MultiHeadDotProductAttention nadam noisy_sgd novograd
OptimizedLSTMCell piecewise_constant_schedule poly_loss polynomial_schedule radam RMSNorm rmsprop rprop
SelfAttention sgd sgdr_schedule sigmoid_binary_cross_entropy sm3 softmax_cross_entropy
softmax_cross_entropy_with_integer_labels squared_error TrainState value_and_grad vmap warmup_cosine_decay_schedule
yogi

accuracy Categorify cnn_learner CrossEntropyLossFlat CSVLogger DataBlock DataLoaders EarlyStopping
EarlyStoppingCallback error_rate FillMissing fit_one_cycle Learner LearningRateMonitor LightningDataModule
LightningModule lr_find MixedPrecision MLFlowLogger ModelCheckpoint MSELossFlat Normalize RichProgressBar rmse
SaveModelCallback seed_everything StochasticWeightAveraging tabular_learner TabularDataLoaders TensorBoardLogger
TQDMProgressBar Trainer WandbLogger

accuracy_score AdaBoostClassifier AdaBoostRegressor add_dummy_feature adjusted_mutual_info_score adjusted_rand_score
affinity_propagation AffinityPropagation AgglomerativeClustering ARDRegression auc average_precision_score
BaggingClassifier BaggingRegressor balanced_accuracy_score BallTree BaseCrossValidator BaseDecisionTree BaseEnsemble
BaseShuffleSplit BayesianRidge BernoulliNB BernoulliRBM binarize Binarizer Birch BisectingKMeans brier_score_loss
calinski_harabasz_score CategoricalNB check_cv check_scoring chi2 class_likelihood_ratios classification_report
cluster cluster_optics_dbscan cluster_optics_xi cohen_kappa_score ColumnTransformer ComplementNB completeness_score
compute_optics_graph confusion_matrix confusion_matrix_at_thresholds ConfusionMatrixDisplay consensus_score
coverage_error cross_val_predict cross_val_score cross_validate d2_absolute_error_score d2_brier_score
d2_log_loss_score d2_pinball_score d2_tweedie_score davies_bouldin_score DBSCAN dbscan dcg_score
DecisionTreeClassifier DecisionTreeRegressor det_curve DetCurveDisplay dict_learning dict_learning_online
DictionaryLearning DictVectorizer DistanceMetric ElasticNet ElasticNetCV enet_path estimate_bandwidth
euclidean_distances explained_variance_score export_graphviz export_text ExtraTreeClassifier ExtraTreeRegressor
ExtraTreesClassifier ExtraTreesRegressor f1_score f_classif f_oneway f_regression FactorAnalysis FastICA fastica
fbeta_score FeatureAgglomeration FeatureHasher FeatureUnion FixedThresholdClassifier fowlkes_mallows_score
FunctionTransformer GammaRegressor GaussianNB GaussianProcessClassifier GaussianProcessRegressor
GenericUnivariateSelect get_bin_seeds get_scorer get_scorer_names GradientBoostingClassifier
GradientBoostingRegressor grid_to_graph GridSearchCV GroupKFold GroupShuffleSplit HalvingGridSearchCV
HalvingRandomSearchCV hamming_loss HDBSCAN hinge_loss HistGradientBoostingClassifier HistGradientBoostingRegressor
homogeneity_completeness_v_measure homogeneity_score HuberRegressor image img_to_graph IncrementalPCA
IsolationForest jaccard_score k_means KBinsDiscretizer KDTree KernelCenterer KernelDensity KernelPCA kernels KFold
KMeans kmeans_plusplus kneighbors_graph KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer KNNImputer
l1_min_c label_binarize label_ranking_average_precision_score label_ranking_loss LabelBinarizer LabelEncoder Lars
lars_path lars_path_gram LarsCV Lasso lasso_path LassoCV LassoLars LassoLarsCV LassoLarsIC LatentDirichletAllocation
learning_curve LearningCurveDisplay LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut LinearRegression
LinearSVC LinearSVR linkage_tree LocalOutlierFactor log_loss LogisticRegression LogisticRegressionCV
make_column_selector make_column_transformer make_pipeline make_scorer make_union matthews_corrcoef max_error
maxabs_scale MaxAbsScaler mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss
mean_poisson_deviance mean_shift mean_squared_error mean_squared_log_error mean_tweedie_deviance MeanShift
median_absolute_error metric_at_thresholds MiniBatchDictionaryLearning MiniBatchKMeans MiniBatchNMF
MiniBatchSparsePCA minmax_scale MinMaxScaler MissingIndicator MLPClassifier MLPRegressor multilabel_confusion_matrix
MultiLabelBinarizer MultinomialNB MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV
mutual_info_classif mutual_info_regression mutual_info_score nan_euclidean_distances ndcg_score NearestCentroid
NearestNeighbors NeighborhoodComponentsAnalysis NMF non_negative_factorization normalize
normalized_mutual_info_score Normalizer NuSVC NuSVR OneClassSVM OneHotEncoder OneVsOneClassifier OneVsRestClassifier
OPTICS OrdinalEncoder orthogonal_mp orthogonal_mp_gram OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV
OutputCodeClassifier pair_confusion_matrix pairwise_distances pairwise_distances_argmin
pairwise_distances_argmin_min pairwise_distances_chunked pairwise_kernels ParameterGrid ParameterSampler
PassiveAggressiveClassifier PassiveAggressiveRegressor PCA Perceptron permutation_test_score Pipeline plot_tree
PoissonRegressor PolynomialFeatures power_transform PowerTransformer precision_recall_curve
precision_recall_fscore_support precision_score PrecisionRecallDisplay PredefinedSplit PredictionErrorDisplay
quantile_transform QuantileRegressor QuantileTransformer r2_score r_regression radius_neighbors_graph
RadiusNeighborsClassifier RadiusNeighborsRegressor RadiusNeighborsTransformer rand_score RandomForestClassifier
RandomForestRegressor randomized_svd RandomizedSearchCV RandomTreesEmbedding RANSACRegressor recall_score
RepeatedKFold RepeatedStratifiedKFold RFE RFECV Ridge ridge_regression RidgeClassifier RidgeClassifierCV RidgeCV
robust_scale RobustScaler roc_auc_score roc_curve RocCurveDisplay root_mean_squared_error
root_mean_squared_log_error scale SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectorMixin
SelectPercentile SequentialFeatureSelector SGDClassifier SGDOneClassSVM SGDRegressor ShuffleSplit silhouette_samples
silhouette_score SimpleImputer sort_graph_by_row_values sparse_encode SparseCoder SparsePCA spectral_clustering
SpectralBiclustering SpectralClustering SpectralCoclustering SplineTransformer StackingClassifier StackingRegressor
StandardScaler StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit SVC SVR TargetEncoder text
TheilSenRegressor TimeSeriesSplit top_k_accuracy_score train_test_split TransformedTargetRegressor TruncatedSVD
TunedThresholdClassifierCV TweedieRegressor v_measure_score VALID_METRICS VALID_METRICS_SPARSE validation_curve
ValidationCurveDisplay VarianceThreshold VotingClassifier VotingRegressor ward_tree zero_one_loss
"""
"""Public names of torch.nn, torch.optim, keras.layers and the rest of Keras, optax and flax, fastai and Lightning, and
scikit-learn."""

ALIASES = {name for names in ADVICE["framework"] for name in names.split()}


def hint(name):
    with pytest.raises(AttributeError, match=f"^framework has no '{name}'") as caught:
        getattr(framework, name)
    return str(caught.value).removeprefix(f"framework has no '{name}'").removeprefix(": ")


def bare(name):
    """A name as all libraries would write it."""
    return re.sub("(optimizer|schedule|loss)$", "", name.lower().replace("_", ""))


def test_a_name_from_elsewhere_has_a_true_hint_or_none():
    hints = {name: hint(name) for name in ELSEWHERE.split() if not hasattr(framework, name)}
    aliases = {bare(name) for name in ALIASES}
    guesses = {
        name: text
        for name, text in hints.items()
        if text and not text.startswith("there is none") and bare(name) not in aliases
    }
    assert len(hints) > 700
    assert len(guesses) > 30
    assert {name: text for name, text in guesses.items() if bare(text.split()[-1]) != bare(name)} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KFold", "write trainer.fit_many(models, (x, y), splits=[*KFold().split(x)]), or framework sweep --folds 5"),
        ("Add", "write Residual(layers), which adds its input to what the layers give"),
        ("Concatenate", "write Join"),
        ("Lambda", "write Layer.of(function), or Activation.of(function)"),
        ("Transformer", "build it of Residual, LayerNorm, MultiHeadAttention and Dense"),
        ("BCEWithLogitsLoss", "write BinaryCrossEntropy"),
        ("BatchNorm2d", "write GroupNorm(groups), which normalizes channels; from framework.models import GroupNorm"),
        (
            "InstanceNorm1d",
            "write GroupNorm(groups), with a group for each channel; from framework.models import GroupNorm",
        ),
        ("LSTMCell", "write SimpleRNN, GRU or LSTM for whole sequences, or loop(step, state, x) in a formula"),
        ("DataLoader", "give fit (x, y) or a Dataset such as CSV, and Trainer batch_size"),
        ("ReduceLROnPlateau", "write from framework.training import ReduceOnPlateau"),
        ("ModelCheckpoint", "write Checkpoint"),
        ("Normalization", "write Standardize() in a Preprocess for a table, or (x - x.mean(axis=0)) / x.std(axis=0)"),
        ("RAdam", "derive it from Optimizer, with its formula in update"),
        ("log_loss", "write CrossEntropy(), or for one output BinaryCrossEntropy()"),
        ("load_digits", "write from framework.data import load_digits"),
        ("to_categorical", "leave it out: CrossEntropy takes integer classes (rows,)"),
        ("SmoothL1Loss", "write Huber(delta=beta), which is beta times as large"),
        ("GlorotUniform", "write from framework.models import Glorot"),
        ("xavier_normal_", "write Glorot(distribution='normal'); from framework.models import Glorot"),
        ("HeNormal", "write from framework.models import He"),
        ("kaiming_uniform_", "write He(distribution='uniform'); from framework.models import He"),
        ("LecunUniform", "write LeCun(distribution='uniform'); from framework.models import LeCun"),
        ("Nesterov", "write SGDOptimizer(learning_rate=..., momentum=0.9, nesterov=True)"),
        ("L2Regularizer", "write L2"),
        ("functional", "layers are in framework.models, optimizers in framework.training"),
    ],
)
def test_what_means_the_same_is_named(name, text):
    assert hint(name) == text


@pytest.mark.parametrize(
    "name",
    [
        "CTCLoss",
        "Conv3d",
        "Dropout2d",
        "LinearLR",
        "SVC",
        "PCA",
        "DataFrame",
        "TSNE",  # not Sine
    ],
)
def test_what_is_missing_is_not_answered_with_something_else(name):
    assert hint(name) == "there is none"


@pytest.mark.parametrize("home", ["views.plots", "sklearn", "testing"])
def test_a_name_of_a_submodule_is_answered_with_the_submodule(home):
    module = importlib.import_module(f"framework.{home}")
    names = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    public = {name for name in getattr(module, "__all__", names) if name[0] != "_"}
    public -= {name for name in public if bare(name) in map(bare, families())}  # write Activation
    public -= {name for name in public if find_spec(f"framework.{name}")}  # which is that module
    assert public
    assert {name: hint(name) for name in public} == dict.fromkeys(public, f"import it from framework.{home}")


@pytest.mark.parametrize(("name", "module"), [("sklearn", "sklearn"), ("testing", "testing")])
def test_a_submodule_is_answered_with_its_import(name, module):
    assert messages.other_libraries()["framework"][name] == f"it is a module: write import framework.{module}"
    importlib.import_module(f"framework.{module}")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Swish", "write from framework.formulas import Swish"),
        ("AdamaxOptimizr", "there is none"),
        ("NadamOptimizr", "write from framework.training import NAdamOptimizer"),
        ("load_digits", "write from framework.data import load_digits"),
        ("Dens", "write Dense"),
        ("datasets", "write from framework.data import datasets"),
        ("losses", "write from framework.formulas import losses"),
        ("plots", "write from framework.views import plots"),
        ("settings", "write from framework.base import settings"),
    ],
)
def test_a_name_of_a_family_is_answered_with_its_import(name, advice):
    assert hint(name) == advice


def test_a_table_has_each_name_once():
    for table in TABLES.values():
        names = [bare for names in table for bare in names.lower().replace("_", "").split()]
        assert [name for name in names if names.count(name) > 1 and name != "call"] == []  # and __call__


@pytest.mark.parametrize(
    ("name", "ours"),
    [("Sequental", "Sequential"), ("Dropuot", "Dropout"), ("EarlyStoping", "EarlyStopping"), ("reLu", "ReLU")],
)
def test_a_misspelt_name_is_answered_with_the_name(name, ours):
    assert hint(name) == f"write {ours}"


def test_texts_for_components_are_answered_by_the_same_table():
    with pytest.raises(SettingsError, match=r"got 'linear'; write Identity\(\)"):
        Dense(2, 3, "linear")
    with pytest.raises(SettingsError, match=r"got 'smooth_l1'; write Huber\(\)$"):
        Trainer(loss="smooth_l1", optimizer=AdamOptimizer())
    with pytest.raises(
        SettingsError, match="got 'slither'; no Activation has that name: define it first, derived from"
    ):
        Dense(2, 3, "slither")
    with pytest.raises(SettingsError, match=r"must be a number or a Schedule; got '0\.1'$"):
        AdamOptimizer(learning_rate="0.1")
    assert closest("NLLLoss", ["Poisson", "CrossEntropy"]) == "CrossEntropy"
    assert closest("Lambda", ["Log", "Layer"]) is None


def components(cls=Component):
    return {cls}.union(*map(components, cls.__subclasses__()))


def test_all_that_the_tables_name_exists():
    settings = {name for cls in components() for name in cls.model_fields} | {*HOOKS}
    assert {other for ours in SETTINGS.values() for other in ours.split()} - settings <= {"fraction", "hidden"}
    for meaning in ADVICE["framework"].values():
        if " " not in meaning or meaning[0].isupper():
            assert {*meaning.split()} <= {*families()}
    sentences = " ".join(meaning for owner in ADVICE.values() for meaning in owner.values())
    named = {*re.findall(r"\b[A-Z][A-Za-z0-9]+", sentences)}
    others = {"False", "KFold", "NeuralClassifier", "NeuralRegressor", "None", "NumPy", "SCRIPT", "True"}
    assert named - others <= {*families()}
    words = [word for names in ADVICE["framework"] for word in names.lower().replace("_", "").split()]
    assert len(words) == len({*words})
    ours = [name for name in ALIASES if name in families()]
    assert ours == ["L1"]


def test_advice_does_what_it_says():
    x, y = np.arange(10.0).reshape(10, 1), np.arange(10.0)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=2)
    runs = trainer.fit_many([Neuron(1) for _ in range(5)], (x, y), splits=[*KFold().split(x)])
    assert [len(run.history) for run in runs] == [2] * 5
    assert Residual(Layer.of(lambda x: 2 * x))([1.0]) == [3.0]
    assert Sequential(Layer.of(lambda x: x**2))([[3.0]]) == [[9.0]]
    assert Schedule.of(lambda step: 1 / (1 + step))(1) == 0.5
    assert on("epoch_end")(print).hooks().keys() == {"on_epoch_end"}
    assert HalfSquaredError()([3.0], [1.0]) == 0.5 * (3.0 - 1.0) ** 2  # optax: l2_loss


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (
            lambda: framework.GRU(8, num_layers=2),
            "'num_layers': write one layer after another, each but the last with returns='all'",
        ),
        (
            lambda: framework.models.Bidirectional(framework.GRU(8), num_layers=2),
            "Bidirectional: unknown setting 'num_layers': write one layer after another",
        ),
        (lambda: framework.LSTM(8, dropout=0.1), "'dropout': write Dropout(...) as a layer of its own"),
        (lambda: Dense(units=2, bias_initializer=0), "'bias_initializer': leave it out: a bias starts at 0."),
        (
            lambda: framework.Conv2D(filters=2, kernel=3, activation=0),
            "'activation': write it as the next layer, ",
        ),
        (lambda: framework.LSTM(2, recurrent_activation=0), "unknown setting 'recurrent_activation'. Settings:"),
        (lambda: framework.LSTM(2, return_state=True), "unknown setting 'return_state'. Settings:"),
        (lambda: framework.LSTM(features=2), "did you mean 'units'?"),
        (lambda: AdamOptimizer(lr_decay=0.1), "unknown setting 'lr_decay'. Settings:"),
        (lambda: framework.training.ReduceOnPlateau(min_lr=0.1), "did you mean 'minimum'?"),
        (lambda: CosineSchedule(initial=1.0, decay_steps=3), "did you mean 'length'?"),
        (
            lambda: Trainer(scheduler=0),
            "unknown setting 'scheduler': it is a setting of the optimizer",
        ),
        (lambda: framework.Huber(beta=2.0), "'beta': write delta=beta, which makes the loss beta times as large."),
        (lambda: CosineSchedule(lr=0.1, length=3), "'lr'; did you mean 'initial'?"),
        (lambda: framework.formulas.StepSchedule(initial=0.1, step_size=3), "did you mean 'every'?"),
        (lambda: framework.Checkpoint("runs", period=3), "'period': write every='epoch', or a number of steps."),
        (lambda: Dense(2, 3, initializer="he_uniform"), "got 'he_uniform'; write He(distribution='uniform')"),
        (lambda: framework.CSV("a.csv", "y", sep=";"), "did you mean 'delimiter'?"),
        (lambda: Trainer(device="cuda"), "'device': leave it out: NumPy computes on the processor, and engine='jax'"),
        (lambda: Dense(32, input_shape=(64,)), "'input_shape': write Dense(64, 32) for 64 inputs and 32 units, or"),
        (lambda: Dense(32, inputs=(64,)), "multiple values for argument 'inputs'; write Dense(64, 32) for 64"),
        (lambda: Neuron(2, inputs=2), "multiple values for argument 'inputs'; write Neuron(2) for 2 inputs"),
        (lambda: Trainer(preprocess=True), "of class Preprocess; got True; write Preprocess.of((table, 'target'))"),
        (lambda: Trainer(preprocess="auto"), "of class Preprocess; got 'auto'; write Preprocess.of((table, 'target'))"),
        (framework.Preprocess, "argument: 'columns'; write Preprocess.of((table, 'target')), or Preproc"),
        (
            lambda: framework.Conv2D(32, 3, activation=0),
            "got 3 without a name\nConv2D: unknown setting 'activation': wr",
        ),
        (
            lambda: framework.EarlyStopping("val_loss", 3, restore_best_weights=True),
            "got 3 without a name\nEarlyStopping: unknown setting 'restore_best_weights'; did you mean 'restore_best'?",
        ),
        (
            lambda: Trainer(Sequential(Dense(2, 1)), MeanSquaredError(), AdamOptimizer()),
            "got Sequential(Dense(inputs=2, units=1)) without a name; write Trainer(...).fit(model, (x, y))",
        ),
        (lambda: framework.Activation("relu"), "Activation is not complete; write ReLU()"),
        (lambda: framework.Loss("mse"), "Loss is not complete; write MeanSquaredError()"),
    ],
)
def test_a_setting_from_elsewhere_has_a_true_hint_or_none(call, answer):
    with pytest.raises(SettingsError) as caught:
        call()
    assert answer in str(caught.value)
