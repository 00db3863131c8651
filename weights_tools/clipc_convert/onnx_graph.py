def network_of_graphs(graphs, activation, heads):
    raise NotImplementedError
