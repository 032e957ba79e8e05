"""When watched bases are asked: the same for every tunnel. How they are asked is the tunnel's."""
