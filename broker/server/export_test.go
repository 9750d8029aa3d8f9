package server

// Waiting returns the bytes in memory for clients that do not take them at once.
func (s *Server) Waiting() int64 { return s.memory.waiting.Load() }
