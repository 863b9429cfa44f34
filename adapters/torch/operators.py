"""The tensor operators that a ``.pt2`` file may call: those that networks are made of, and nothing besides.

ATen has some 2,500 operators. Many of them read files, print, wait, hand out memory that nobody has written, or draw at
random; none of these is in a network that is looked at. Collected from what the layers of torch.nn, and the networks of
torchvision and timm in inference, export to, before and after decomposition.
"""

from __future__ import annotations

_ARITHMETIC = """
abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not
bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip cos cosh cross deg2rad div divide
dist vdot eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac ge greater greater_equal gt heaviside
hypot isclose isfinite isinf isnan isneginf isposinf ldexp le lerp less less_equal log log10 log1p log2 logaddexp
logaddexp2 logical_and logical_not logical_or logical_xor logit lt maximum minimum mul multiply nan_to_num ne neg
negative not_equal polar pow rad2deg reciprocal remainder round rsqrt rsub sgn sigmoid sign signbit sin sinc sinh
special_erf special_erfc special_erfcx special_expit special_expm1 special_sinc sqrt square sub subtract tan tanh
true_divide trunc where xlogy matrix_exp linalg_matrix_exp
"""
_REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort bincount bucketize count_nonzero cummax cummin cumprod cumsum histc
kthvalue linalg_cross linalg_matrix_norm linalg_norm linalg_vector_norm logcumsumexp logsumexp max mean median min
msort nanmean nansum norm prod searchsorted sort special_logsumexp std std_mean sum topk var var_mean unique_consecutive
_unique2 unique_dim nonzero nonzero_static is_nonzero
"""
_PRODUCTS = """
addbmm addmm addmv addr baddbmm bilinear bmm chain_matmul cosine_similarity det dot einsum embedding embedding_bag
_embedding_bag _embedding_bag_forward_only inner kron linalg_det _linalg_det linalg_inv linalg_inv_ex linalg_matmul
linalg_multi_dot linalg_solve linear matmul mm mv outer pairwise_distance cdist _cdist_forward tensordot
"""
_LAYERS = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution conv_tbc batch_norm
_batch_norm_no_update _native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training native_batch_norm group_norm native_group_norm instance_norm layer_norm
native_layer_norm local_response_norm rms_norm _fused_rms_norm renorm embedding_renorm dropout feature_dropout
alpha_dropout feature_alpha_dropout native_dropout celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh
leaky_relu log_sigmoid log_sigmoid_forward log_softmax _log_softmax special_log_softmax mish prelu _prelu_kernel
relu relu6 rrelu rrelu_with_noise selu silu softmax _softmax special_softmax softplus softshrink threshold lstm gru
rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell scaled_dot_product_attention
_scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math _native_multi_head_attention
_transformer_encoder_layer_fwd _safe_softmax adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d
avg_pool2d avg_pool3d max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices max_unpool2d max_unpool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa affine_grid_generator
grid_sampler grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback pixel_shuffle pixel_unshuffle
channel_shuffle native_channel_shuffle im2col col2im fake_quantize_per_channel_affine
fake_quantize_per_tensor_affine fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn fft_rfft fft_rfft2 fft_rfftn
fft_irfft fft_irfft2 fft_irfftn fft_fftshift fft_ifftshift fft_fftfreq fft_rfftfreq _fft_c2c _fft_c2r _fft_r2c stft
istft rrelu_with_noise_functional _weight_norm _weight_norm_interface linalg_householder_product _linalg_solve_ex
blackman_window hamming_window hann_window kaiser_window
"""
_SHAPES = """
alias as_strided as_strided_copy atleast_1d atleast_2d atleast_3d block_diag broadcast_in_dim broadcast_tensors
broadcast_to cat chunk column_stack concat concatenate constant_pad_nd contiguous diag diag_embed diagonal
diagonal_copy diagonal_scatter diff dstack expand expand_as expand_copy flatten flip fliplr flipud gather hsplit hstack
index index_add index_copy index_fill index_put index_select mH mT masked_fill masked_scatter masked_select meshgrid
moveaxis movedim narrow narrow_copy numpy_T pad _pad_enum permute permute_copy ravel reflection_pad1d
reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
reshape reshape_as _reshape_alias _reshape_copy roll rot90 scatter scatter_add scatter_reduce select select_copy
select_scatter slice slice_copy slice_scatter split split_copy split_with_sizes split_with_sizes_copy squeeze
squeeze_copy stack swapaxes swapdims t t_copy take take_along_dim tensor_split tile transpose transpose_copy tril
tril_indices triu triu_indices unbind unbind_copy unflatten unfold unfold_copy unsafe_chunk unsafe_split
unsafe_split_with_sizes unsqueeze unsqueeze_copy _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view
view view_as view_copy vsplit vstack
"""
_MAKING = """
arange clone complex conj _conj _conj_physical copy detach detach_copy empty empty_like empty_permuted empty_strided
eye fill full full_like imag lift lift_fresh lift_fresh_copy linspace new_empty new_empty_strided new_full new_ones
new_zeros one_hot ones ones_like real resolve_conj resolve_neg scalar_tensor tensor to _to_copy type_as
view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_of zero zeros zeros_like
convert_element_type device_put float int
"""
_SIZES = """
item _local_scalar_dense sym_constrain_range sym_constrain_range_for_size sym_is_contiguous sym_numel sym_size
sym_storage_offset sym_stride _assert_async _assert_scalar _assert_tensor_metadata _check_is_size numel size
"""
_LOSSES = """
binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss hinge_embedding_loss
huber_loss kl_div l1_loss margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss nll_loss nll_loss2d
nll_loss2d_forward nll_loss_forward nll_loss_nd poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
"""
NAMES = frozenset(f"{_ARITHMETIC}{_REDUCTIONS}{_PRODUCTS}{_LAYERS}{_SHAPES}{_LOSSES}{_MAKING}{_SIZES}".split())


def is_listed(name: str) -> bool:
    """Whether an operator, ``add`` of ``torch.ops.aten.add.Tensor``, is on the list; in place ``add_`` counts as it."""
    return name in NAMES or (name.endswith("_") and not name.endswith("__") and name[:-1] in NAMES)
