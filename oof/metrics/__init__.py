"""Metrics of predictions, the same for trainers, blends, the command line and the report.

table               the metrics by name
metric              their properties
ranking             AUC and other scores from the ROC curve, average precision
probabilities       log loss, Brier, accuracy
regression          RMSE
rounding            effect of float32 on the AUC
intervals           confidence intervals and paired differences
delong, bootstrap   methods behind them
*_kernel            compiled loops
"""

from oof.metrics.metric import Metric, MetricFunction
from oof.metrics.ranking import roc_auc, roc_auc_columns
from oof.metrics.table import METRICS, metric_by_name, metric_label

__all__ = ["METRICS", "Metric", "MetricFunction", "metric_by_name", "metric_label", "roc_auc", "roc_auc_columns"]
