import LocalBroker

extension NodeOptions {
    /// The listeners of MQTT clients, in the order of the ready line.
    var listenerSettings: [ListenerSettings] {
        [self.mqttListener.settings, self.mqttsListener.settings, self.wsListener.settings, self.wssListener.settings]
    }

    /// The same as the broker takes them, without those that are off.
    ///
    /// - Parameter anyAddress: what stands for all addresses of this host.
    func brokerListeners(anyAddress: String) -> [BrokerConfiguration.Listener] {
        let tls = self.tls.listenerOptions
        return self.listenerSettings.compactMap { settings in
            let standard = settings.isSecure && tls == nil ? Port.off : .number(settings.standardPort)
            guard case .number(let port) = settings.port ?? standard else { return nil }
            var listener = BrokerConfiguration.Listener(
                name: settings.name,
                host: settings.bind ?? self.addresses.bind ?? anyAddress,
                port: port,
                tls: settings.isSecure ? tls : nil,
                webSocket: settings.isWebSocket ? self.wsListener.webSocket : nil,
                acceptsProxyProtocol: settings.proxyProtocol
            )
            listener.anonymous = (settings.anonymous ?? self.access.anonymous)?.policy
            listener.maximumConnections = settings.maxConnections.count
            listener.connectRate = self.limits.connectRate.rate
            return listener
        }
    }

    /// Listeners that need a certificate and have none.
    var listenerConflicts: [String] {
        guard self.tls.listenerOptions == nil else { return [] }
        return self.listenerSettings.compactMap { settings in
            guard settings.isSecure, case .number? = settings.port else { return nil }
            return "\(settings.name)-port needs a certificate: set tls-cert and tls-key"
        }
    }
}
