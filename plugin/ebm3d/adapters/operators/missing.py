"""The operators of mmcv 2.1.0 that this package does not provide, and what each is for."""

from __future__ import annotations

_NAMES = {
    "rotation-invariant filters of oriented 2D detectors": (
        "active_rotated_filter_forward active_rotated_filter_backward"
    ),
    "PAConv's assembly of weights": "assign_score_withk_forward assign_score_withk_backward",
    "neighbors of a point within a radius, for PointNet++": (
        "ball_query_forward stack_ball_query_forward"
    ),
    "IoU of axis-aligned boxes in an image": "bbox_overlaps",
    "text features along Bezier curves": "bezier_align_forward bezier_align_backward",
    "StyleGAN's bias and activation": (
        "bias_act filtered_lrelu filtered_lrelu_act_ fused_bias_leakyrelu upfirdn2d"
    ),
    "BorderDet's features along borders": "border_align_forward border_align_backward",
    "quadrilaterals in an image": "box_iou_quadri nms_quadri",
    "CARAFE's upsampling": (
        "carafe_naive_forward carafe_naive_backward carafe_forward carafe_backward"
    ),
    "chamfer distance of 2D point sets": "chamfer_distance_forward chamfer_distance_backward",
    "text detection by growing kernels": "contour_expand pixel_group",
    "polygons of oriented 2D detectors": "convex_iou convex_giou min_area_polygons",
    "correlation of two feature maps, for optical flow": (
        "correlation_forward correlation_backward"
    ),
    "modulated deformable convolution of detectors in images": (
        "modulated_deform_conv_forward modulated_deform_conv_backward"
    ),
    "deformable pooling of regions of an image": (
        "deform_roi_pool_forward deform_roi_pool_backward"
    ),
    "the differentiable IoU of rotated boxes, for a rotated IoU loss": (
        "diff_iou_rotated_sort_vertices_forward"
    ),
    "softmax focal loss": "softmax_focal_loss_forward softmax_focal_loss_backward",
    "sampling of points, for PointNet++": (
        "furthest_point_sampling_forward furthest_point_sampling_with_dist_forward"
    ),
    "grouping of points, for PointNet++": (
        "gather_points_forward gather_points_backward group_points_forward group_points_backward "
        "stack_group_points_forward stack_group_points_backward knn_forward "
        "three_interpolate_forward three_interpolate_backward three_nn_forward"
    ),
    "overlap and NMS of indoor boxes, for ImVoxelNet and FCAF3D": (
        "iou3d_boxes_overlap_bev_forward iou3d_nms3d_forward iou3d_nms3d_normal_forward"
    ),
    "masked convolution, for guided anchors": "masked_im2col_forward masked_col2im_forward",
    "deformable attention on a GPU": "ms_deform_attn_forward ms_deform_attn_backward",
    "soft NMS and groups of suppressed boxes in an image": "softnms nms_match",
    "points in polygons of an image": "points_in_polygons_forward",
    "precise pooling of regions of an image": (
        "prroi_pool_forward prroi_pool_backward prroi_pool_coor_backward"
    ),
    "PSANet's attention masks": "psamask_forward psamask_backward",
    "pooling of regions of an image": (
        "roi_align_forward roi_align_backward roi_pool_forward roi_pool_backward"
    ),
    "features of rotated regions of an image": (
        "riroi_align_rotated_forward riroi_align_rotated_backward roi_align_rotated_forward "
        "roi_align_rotated_backward rotated_feature_align_forward rotated_feature_align_backward"
    ),
    "pooling of points in a box, for Part-A2 and PointRCNN": (
        "roiaware_pool3d_forward roiaware_pool3d_backward roipoint_pool3d_forward"
    ),
    "mmcv's own sparse convolution; spconv is used where it is installed": (
        "get_indice_pairs_2d_forward get_indice_pairs_3d_forward get_indice_pairs_4d_forward "
        "get_indice_pairs_2d_backward get_indice_pairs_3d_backward indice_conv_forward "
        "indice_conv_backward fused_indice_conv_forward indice_maxpool_forward "
        "indice_maxpool_backward"
    ),
    "mmcv's own synchronized batch norm; torch has one": (
        "sync_bn_forward_mean sync_bn_forward_var sync_bn_forward_output sync_bn_backward_param "
        "sync_bn_backward_data"
    ),
    "shifts along time, for videos": "tin_shift_forward tin_shift_backward",
}

PURPOSES = {name: purpose for purpose, names in _NAMES.items() for name in names.split()}
"""Name in ``mmcv._ext``: what the operator is for."""
