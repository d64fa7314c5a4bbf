"""The tensors of a network that training changes, and those that keep their initial values."""

from torch import Tensor

from onlybn.models.network import Network


def learned(network: Network) -> dict[str, Tensor]:
    """Return what training changes: the trainable parameters and the running statistics, by name."""
    trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    return trained | running_statistics(network)


def running_statistics(network: Network) -> dict[str, Tensor]:
    """Return the running statistics of every normalisation layer that has some, by name."""
    return {
        f"{name}.{key}": buffer
        for name, layer in network.named_normalisations()
        for key, buffer in layer.named_buffers()
    }


def frozen(network: Network) -> dict[str, Tensor]:
    """Return what training does not change: every other floating-point tensor, by name."""
    # Layers may share a trained parameter, which then has several names.
    shared = {n for n, p in network.named_parameters(remove_duplicate=False) if p.requires_grad}
    moved = learned(network).keys() | shared
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in moved and tensor.is_floating_point()
    }
