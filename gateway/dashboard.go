package gateway

import (
	"holdfast/broker/listen"
	"holdfast/gateway/config"
	"holdfast/gateway/web"
)

// newWeb makes the dashboard of what has been built before.
func (a *Agent) newWeb() (err error) {
	w, b := a.cfg.Web, a.cfg.Broker
	opts := web.Options{
		Address: w.Address, Device: a.cfg.Device.ID, Auth: a.auth, View: w.View, Operate: w.Operate, Local: web.Operate, Log: a.log,
	}
	if len(b.Users) > 0 || b.PasswordFile != "" || len(b.ACL) > 0 || b.ACLFile != "" {
		opts.Local = web.View // who is on this device may not publish a command without a rule either
	}
	if w.TLS() {
		if opts.TLS, err = webTLS(w); err != nil {
			return err
		}
		a.certificates = append(a.certificates, opts.TLS)
		a.logCertificate(opts.TLS)
	} else if w.Login() && !w.Local() {
		a.log.Warn("passwords for the dashboard cross the network for everybody to read: use https in web.url")
	}
	a.web = web.New(opts)
	return nil
}

func webTLS(w config.Web) (*listen.TLS, error) {
	return listen.NewTLS(listen.TLSOptions{Cert: w.Cert, Key: w.Key})
}
