"""The tensors of a network that training changes, and those that keep their initial values."""

from collections.abc import Iterable

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
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return others(network, [*trained, *running_statistics(network).values()])


def others(network: Network, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return every floating-point tensor of the network but these, by name; any may have several names."""
    left_out = {id(tensor) for tensor in tensors}
    return {
        name: tensor.detach()
        for name, tensor in network.state_dict(keep_vars=True).items()
        if id(tensor) not in left_out and tensor.is_floating_point()
    }
