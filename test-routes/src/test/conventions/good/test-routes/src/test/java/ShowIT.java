class ShowIT { }
