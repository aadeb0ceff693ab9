"""What a trained model does: attention maps, severed connections, replayed masks. Functions of (model, params, batch)."""
